"""`python -m potstill`."""

from __future__ import annotations

from potstill.cli import main

raise SystemExit(main())
