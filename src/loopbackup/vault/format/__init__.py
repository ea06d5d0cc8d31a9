"""What bytes mean: names, sealed objects, blobs, packs, index, records. No I/O."""
