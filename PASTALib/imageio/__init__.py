"""Under ``volume``: the file formats, their checks, and sampling along an image's own axes."""
