#!/usr/bin/env python3
"""Renders the chart as `helm template --include-crds` would, where the program helm is not to be had.

Usage: render.py CHART NAMESPACE [VALUES-AS-JSON]
Needs the package helm-python-sdk, which carries Helm's own engine.
"""

import json
import sys

from helm_python.chart import Chart, lint


def main(path, namespace, values="{}"):
    values = json.loads(values)
    errors = lint(path, values, namespace=namespace)["errors"]
    if errors:
        sys.exit("\n".join(errors))
    with Chart.load(path) as chart:
        chart.validate_schema(values)
        documents = [crd["data"] for crd in chart.crds]
        rendered = chart.render(values, name="smartnat", namespace=namespace)
        documents += [rendered[name] for name in sorted(rendered) if not name.endswith(".txt")]
    print("\n---\n".join(documents))


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
