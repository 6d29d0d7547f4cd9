"""Window attention: text tokens dense, visual tokens to the window of their layout."""
