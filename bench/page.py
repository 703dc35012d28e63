"""``COMMAND | python -m bench.page NAME``: put a benchmark's output into docs/benchmarks.md, and print it too."""

import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def publish(name: str, section: str, page: Path = PAGE) -> None:
    """Replace the section between its markers in the page, or append it."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    text = page.read_text() if page.exists() else "# Benchmarks\n"
    before, mark, rest = text.partition(start)
    before, after = (before, rest.partition(end)[2]) if mark else (f"{before.rstrip()}\n\n", "\n")
    page.write_text(f"{before}{start}\n{section.rstrip()}\n{end}{after}")


def main() -> None:
    """Publish the section on standard input."""
    section = sys.stdin.read()
    publish(sys.argv[1], section)
    sys.stdout.write(section)


if __name__ == "__main__":
    main()
