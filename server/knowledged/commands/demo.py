import argparse

from knowledged.settings import Settings

HELP = "x"


def add_arguments(parser: argparse.ArgumentParser) -> None: ...


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    return 1
