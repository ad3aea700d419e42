"""A page and an API over HTTP: what may come in is bounded, who may ask is checked, and nothing sent is kept."""
