"""``plugins``, ``containers``, ``doctor``, ``demo``: what is here, and what it can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from synthkit.cli import options as common
from synthkit.errors import ExitCode, PluginError, UsageError

plugins = typer.Typer(help="List, show, check and create plugins.", invoke_without_command=True, rich_markup_mode=None)
containers = typer.Typer(
    help="Build, pull, list, inspect, export container images.", no_args_is_help=True, rich_markup_mode=None
)


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")] = Path("synthkit-demo"),
    overwrite: common.Overwrite = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """The whole job on a phantom, in minutes.

    On this CPU, with no data, no engine and no network.
    """
    from synthkit.cli.demo import run_demo

    console = common.console_for(json, quiet)
    result = run_demo(out, console, overwrite=overwrite)
    console.document(result)


@plugins.callback()
def list_plugins(
    context: typer.Context,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """List, show, check and create plugins."""
    if context.invoked_subcommand is not None:
        return
    from synthkit.registry.registry import discover

    console = common.console_for(json, quiet)
    registry = discover()
    console.document(
        {
            "plugins": [registry.declarations[name].to_dict() for name in registry.names()],
            "broken": [vars(item) for item in registry.broken],
        }
    )
    rows = [
        (d.kind, d.name, f"{d.distribution} {registry.versions.get(d.name, '')}", d.licence, d.summary)
        for d in sorted(registry.declarations.values(), key=lambda d: (d.kind, d.name))
    ]
    console.table("", ("kind", "name", "package", "licence", "summary"), rows)
    for broken in registry.broken:
        console.warning(f"{broken.name} ({broken.distribution or 'unknown package'}) is broken: {broken.reason}.")


@plugins.command("show")
def show_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME")], json: common.Json = False, quiet: common.Quiet = False
) -> None:
    """What a plugin declares: parameters, scores, citations."""
    from synthkit.contract import MetricDeclaration
    from synthkit.registry.presets import presets_of, purpose
    from synthkit.registry.registry import discover

    console = common.console_for(json, quiet)
    registry = discover()
    declaration = registry.get(name)
    presets = presets_of(declaration)
    described = {**declaration.to_dict(), "presets": {name: str(file) for name, file in presets.items()}}
    console.document(described)
    console.print(f"{declaration.name}: {declaration.summary}", style="bold")
    console.print(
        f"{declaration.kind} of {declaration.distribution} {registry.versions.get(name, '')}, {declaration.licence}"
    )
    console.print(f"GPU {declaration.gpu}, reproducible: {declaration.reproducible}, contract {declaration.contract}")
    if described.get("imports"):
        console.print(f"Imports (`synthkit import-checkpoint {declaration.name}`): {'; '.join(described['imports'])}")
    rows = [(p["name"], p["type"], _default(p["default"]), _bounds(p), p.get("help", "")) for p in described["params"]]
    console.table("Parameters (-p NAME=VALUE)", ("name", "type", "default", "allowed", "meaning"), rows)
    if described.get("label_maps"):
        need = described["label_maps_need"]
        where = f", where it was trained with -p {need}=true" if need else ""
        console.print(f"It can be asked for label maps (`synthkit generate --labels`){where}.")
    if described.get("conditions"):
        asked = [(c["name"], c["type"], _bounds(c), c.get("unit", ""), c["help"]) for c in described["conditions"]]
        console.table("Conditions (--condition NAME=VALUE)", ("name", "type", "allowed", "unit", "meaning"), asked)
    if presets:
        kept = [(name, purpose(file), str(file)) for name, file in presets.items()]
        console.table("Presets (--preset NAME)", ("name", "for", "file"), kept)
    if isinstance(declaration, MetricDeclaration):
        score_rows = [(s.name, s.better, s.unit, s.summary) for s in declaration.scores]
        console.table("Scores", ("name", "better", "unit", "meaning"), score_rows)
    console.ending("", declaration.citations)


@plugins.command("check")
def check_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="With docker, apptainer or local, also run whole jobs there; inline runs none.",
        ),
    ] = "inline",
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Run the conformance checks on a plugin. Exits with 4 if one fails."""
    from synthkit.testing import run_checks

    console = common.console_for(json, quiet)
    with console.progress(f"check {name}") as view:
        results = run_checks(
            name, backend=backend, on_check=lambda result, done, total: view.step(done, total, "check")
        )
    console.document({"plugin": name, "checks": [item.to_dict() for item in results]})
    outcomes = {"passed": "passed", "failed": "FAILED", "skipped": "skipped"}
    console.table("", ("check", "outcome", "detail"), [(r.name, outcomes[r.status], r.reason) for r in results])
    failed = [item for item in results if item.status == "failed"]
    if failed:
        raise PluginError(
            f"{name} fails {len(failed)} of {len(results)} checks.",
            f"{failed[0].name}: {failed[0].reason}.",
            f"It promises: {failed[0].promise}",
        )
    n_passed = sum(item.status == "passed" for item in results)
    skipped = f", {len(results) - n_passed} skipped" if n_passed < len(results) else ""
    console.print(f"{name} passes {n_passed} checks{skipped}.")


@plugins.command("new")
def new_plugin(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="generator, segmenter or metric.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is to be called on the command line.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder to write. Default: synthkit-NAME.", show_default=False),
    ] = None,
    images: Annotated[
        bool, typer.Option("--images", help="A metric of real and synthetic images, instead of one of label maps.")
    ] = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Write a package with a small working plugin, to begin your own with."""
    from synthkit.testing.scaffold import write_plugin

    console = common.console_for(json, quiet)
    folder = write_plugin(kind, name, out, images=images)
    console.document({"plugin": name, "kind": kind, "folder": str(folder)})
    console.print(f"Next: pip install -e '{folder}[runtime,test]'")
    console.print(f"      synthkit plugins check {name}")
    console.print(f"      put your method in {folder}/src; {folder}/README.md says what is where")


@containers.command("build")
def build_containers(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Plugins or their packages, base or base-cpu.")],
    base_image: Annotated[
        str | None,
        typer.Option("--base-image", metavar="IMAGE", help="What base or base-cpu starts from.", show_default=False),
    ] = None,
    find_links: Annotated[
        Path | None,
        typer.Option(
            "--find-links", metavar="DIR", help="Wheels to install from, besides the index.", show_default=False
        ),
    ] = None,
    torch_index: Annotated[
        str | None,
        typer.Option(
            "--torch-index",
            metavar="URL",
            help="Where base or base-cpu looks for torch besides the index; none: nowhere. Default: for base-cpu "
            "PyTorch's index, unless --find-links has torch.",
            show_default=False,
        ),
    ] = None,
    ca_bundle: Annotated[
        Path | None,
        typer.Option("--ca-bundle", metavar="FILE", help="Certificates that the build trusts.", show_default=False),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option("--network", metavar="MODE", help="Network of the build, e.g. host.", show_default=False),
    ] = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Build the container images of plugins; base or base-cpu comes first."""
    from synthkit.running.containers import building

    console = common.console_for(json, quiet)
    built = building.build_all(
        names,
        base_image=base_image,
        find_links=find_links,
        torch_index="" if torch_index == "none" else torch_index,
        ca_bundle=ca_bundle,
        network=network,
        on_line=console.note,
    )
    console.document({"built": built})
    for item in built:
        console.print(f"Built {item['image']} ({item['id'][:19]})")


@containers.command("pull")
def pull_containers(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Plugins or their packages, base or base-cpu.")],
    source: Annotated[
        str, typer.Option("--from", metavar="REGISTRY/NAME", help="Where they are: registry.example.org/synthkit.")
    ],
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Pull the container images of plugins from a registry, instead of building them.

    Each is checked before it is used; where a synthkit.lock names another image, it is refused with 10.
    """
    from synthkit.running.containers import pulling
    from synthkit.running.lock import find_lock, read_lock

    console = common.console_for(json, quiet)
    lock = find_lock()
    locked = read_lock(lock).get("images", {}) if lock is not None else {}
    pulled = pulling.pull_all(names, source, locked=locked, on_line=console.note)
    console.document({"pulled": pulled})
    for item in pulled:
        console.print(f"Pulled {item['image']} ({item['id'][:19]})")


@containers.command("list")
def list_containers(json: common.Json = False, quiet: common.Quiet = False) -> None:
    """Container images of synthkit that the engine has."""
    from synthkit.running.containers import images

    console = common.console_for(json, quiet)
    found = images.list_images()
    console.document({"images": found})
    rows = [
        (i["name"], f"{i['bytes'] / 1e9:.2f} GB", i["created"][:10], ", ".join(i["plugins"]), i["id"][:19])
        for i in found
    ]
    console.table("", ("image", "size", "made", "plugins", "id"), rows)
    if not found:
        console.print("None. Build some: synthkit containers build base stylegan2 unet overlap memorization")


@containers.command("inspect")
def inspect_container(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A plugin, base or base-cpu.")],
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """What the image of a plugin declares, and whether it fits what is installed here."""
    import json as json_module

    from synthkit.running.containers import images

    console = common.console_for(json, quiet)
    described = images.inspect(images.find_target(name))
    console.document(described)
    console.print(json_module.dumps(described, indent=1))


@containers.command("export")
def export_containers(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Plugins or their packages.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the archives.", show_default=False)],
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Write container images to archives, for a cluster with Apptainer."""
    from synthkit.running.containers import sif

    console = common.console_for(json, quiet)
    written = sif.export(names, out)
    console.document({"exported": written})
    for item in written:
        console.print(f"Wrote {item['archive']}")
    console.note("On the cluster:")
    for item in written:
        console.note(item["build"])


def doctor(
    clean: Annotated[bool, typer.Option("--clean", help="Remove containers that killed commands left behind.")] = False,
    gpu: Annotated[
        bool,
        typer.Option("--gpu", help="Look at the GPUs alone: driver, torch, a small training compared with the CPU."),
    ] = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Check this machine: what is there, and what is missing.

    Engine, GPU, disk, plugins, container images; and what to do about what is not there. --gpu ends with 9 unless each
    GPU computes what the CPU computes.
    """
    from synthkit.cli.doctor import examine, examine_gpu

    if gpu and clean:
        raise UsageError("--gpu and --clean do not go together.", "--gpu looks at GPUs alone.", "Give one of them.")
    console = common.console_for(json, quiet)
    findings, about = examine_gpu() if gpu else (examine(clean=clean), {})
    console.document({"findings": [vars(item) for item in findings], **about})
    console.table("", ("", "what", "found"), [(item.mark, item.what, item.found) for item in findings])
    for item in findings:
        if item.remedy:
            console.print(f"{item.what}: {item.remedy}")
    if gpu and any(item.state != "ok" for item in findings):
        raise typer.Exit(int(ExitCode.GPU_UNAVAILABLE))
    if any(item.state == "broken" for item in findings):
        raise typer.Exit(int(ExitCode.PLUGIN))


def _default(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _bounds(param: dict[str, Any]) -> str:
    if param.get("choices") == "labels":
        return "names of labels"
    if param.get("choices"):
        return " ".join(map(str, param["choices"]))
    low, high = param.get("minimum"), param.get("maximum")
    if low is None and high is None:
        return ""
    return f"{'' if low is None else low}..{'' if high is None else high}"


COMMANDS = {"demo": demo, "doctor": doctor}
GROUPS = {"plugins": plugins, "containers": containers}
