"""``COMMAND | python -m bench.page NAME``: put what a benchmark prints into docs/benchmarks.md, and pass it on."""

import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def publish(name: str, section: str, page: Path = PAGE) -> None:
    """Put the section between its marks in the page, or at the page's end."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    text = page.read_text() if page.exists() else "# Benchmarks\n"
    before, mark, rest = text.partition(start)
    before, after = (before, rest.partition(end)[2]) if mark else (f"{before.rstrip()}\n\n", "\n")
    page.write_text(f"{before}{start}\n{section.rstrip()}\n{end}{after}")


def main() -> None:
    """Standard input is the section."""
    section = sys.stdin.read()
    publish(sys.argv[1], section)
    sys.stdout.write(section)


if __name__ == "__main__":
    main()
