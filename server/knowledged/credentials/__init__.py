"""Keys for outside services: a type that does not show them, how they are stored, which is used."""
