"""Run Python code as if some packages were not installed: `python without_modules.py PACKAGE,… CODE ARGUMENTS`."""

import importlib.machinery
import sys


class PathFinder(importlib.machinery.PathFinder):
    """Finds all modules but those of the hidden packages."""

    hidden: frozenset[str] = frozenset()

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname.partition(".")[0] in cls.hidden else super().find_spec(fullname, path, target)


PathFinder.hidden = frozenset(sys.argv[1].split(","))
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = PathFinder
code, sys.argv = sys.argv[2], ["coldfusion", *sys.argv[3:]]
exec(code)
