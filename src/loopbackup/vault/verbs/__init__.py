"""One module a verb: plan first, then one function applies."""
