"""Foreign text made safe for a terminal."""


def printable(text: str) -> str:
    """One line without control characters: those could drive the terminal that shows them."""
    return "".join(c if c.isprintable() else " " for c in text)


def snippet(text: str, longest: int) -> str:
    """The beginning in one line of at most `longest` characters, white space collapsed."""
    line = " ".join(printable(text).split())
    return line if len(line) <= longest else f"{line[: longest - 1].rstrip()}…"
