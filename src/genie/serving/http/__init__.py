"""The web application: the page, its requests and their authentication."""
