"""Who can read what: credentials, slots, the keyring, domains."""
