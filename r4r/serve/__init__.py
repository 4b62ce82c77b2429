"""A trained pipeline for people and programs: the Python entrance, a page and a server."""
