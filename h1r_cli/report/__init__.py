"""A finished run as one HTML page that needs no network: numbers from the run, pictures drawn by the page itself."""
