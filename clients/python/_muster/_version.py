__version__ = "0.1.0"

# Version of Muster's own API that this client speaks (package api in the server's sources).
API_VERSION = 1
