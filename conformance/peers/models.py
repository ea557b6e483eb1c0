"""What the message models of the Python implementation make of texts.

    python models.py PROGRAM

Run by the interpreter that runs PROGRAM, one of the three programs of the Python implementation. Each line of stdin is
a JSON object: `union`, the name of a direction, and `input`, a text. Each is answered by a line on stdout: `canonical`,
what the models write for the text, or null if they refuse it.

Exits with status 3, and a line on stderr, where there are no such models.
"""

import importlib
import json
import pkgutil
import sys

PACKAGE = "http_network_relay"


def find_package(program):
    """Does what a program does before it imports its package: some add the package's folder to the path."""
    with open(program, encoding="utf-8") as file:
        lines = file.read().splitlines()
    before = []
    for line in lines:
        if PACKAGE in line and line.lstrip().startswith(("import ", "from ")):
            break
        before.append(line)
    exec("\n".join(before), {"__name__": PACKAGE})
    return importlib.import_module(PACKAGE)


def find_models(package):
    """Everything that reads JSON and writes it, by name."""
    models = {}
    for module in pkgutil.walk_packages(package.__path__, PACKAGE + "."):
        try:
            contents = vars(importlib.import_module(module.name))
        except Exception as error:  # a program that cannot be imported is no module with models
            print(f"{module.name} is left out: {error!r}", file=sys.stderr)
            continue
        for name, value in contents.items():
            if isinstance(value, type) and hasattr(value, "model_validate_json"):
                models[name] = value
    return models


def main():
    try:
        models = find_models(find_package(sys.argv[1]))
    except (ImportError, OSError, SyntaxError) as error:
        print(f"no models: {error}", file=sys.stderr)
        return 3
    for line in sys.stdin:
        question = json.loads(line)
        model = models[question["union"]]
        try:
            canonical = model.model_validate_json(question["input"]).model_dump_json()
        except ValueError:
            canonical = None
        print(json.dumps({"canonical": canonical}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
