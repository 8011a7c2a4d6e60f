"""The web application: pages, requests and who may make them."""
