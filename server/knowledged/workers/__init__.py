"""What runs beside the server, for as long as it serves."""
