"""The drill-down over HTTP: JSON, sound, pictures of sound, pages, and who may have them."""
