"""``python -m PASTALib.worker``. Also run by its path, by interpreters of environments in which PASTALib is not installed."""

import sys

if not __package__:
    # PYTHONPATH would bring all that lies beside this package, such as the site-packages of another Python; this brings it alone.
    import importlib.util
    from pathlib import Path

    package = Path(__file__).resolve().parents[1]
    if sys.path and sys.path[0] and Path(sys.path[0]).resolve() == package / "worker":
        del sys.path[0]
    spec = importlib.util.spec_from_file_location(
        package.name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[package.name] = module
    spec.loader.exec_module(module)

if __name__ == "__main__":
    from PASTALib.worker.server import main

    main()
