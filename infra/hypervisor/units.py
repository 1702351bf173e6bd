"""A service as a systemd unit. Pure."""

from __future__ import annotations

from infra.hypervisor.supervise import Definition


def unit_text(definition: Definition) -> str:
    """KillMode=process: guests are children of libvirtd's unit and outlive it, as in libvirt's own unit."""
    environment = "".join(f"Environment={quoted(f'{key}={value}')}\n" for key, value in definition.environment.items())
    return (
        "[Unit]\n"
        f"Description=Sampan: {definition.name}\n"
        "StartLimitIntervalSec=0\n"
        f"{identity_line(definition)}"
        "\n"
        "[Service]\n"
        f"ExecStart={' '.join(quoted(word).replace('$', '$$') for word in definition.argv)}\n"
        f"{environment}"
        "Restart=always\n"
        "RestartSec=1\n"
        "KillMode=process\n"
        f"StandardOutput=append:{definition.log}\n"
        f"StandardError=append:{definition.log}\n"
    )


def identity_line(definition: Definition) -> str:
    """systemd ignores names that begin with X- (systemd.unit(5))."""
    return f"X-SampanIdentity={definition.identity}\n" if definition.identity else ""


def quoted(word: str) -> str:
    """systemd.syntax(7), "Quoting", and no specifier (%) expanded."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{escaped}"'
