"""The tasks as a page: `nextpixel serve`. Models in, HTTP and one static page out; nothing is written to disk."""
