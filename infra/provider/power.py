"""Power: a domain started, stopped and started again. A guest is asked to shut down before it is switched off."""

from __future__ import annotations

import os
import time
from typing import Any

from infra.provider.binding import libvirt
from infra.provider.marks import Mark, find
from infra.provider.resource import Context, ProviderError

# SAMPAN_SHUTDOWN_TIMEOUT_S overrides both. Without KVM a guest is some ten times slower.
SHUTDOWN_TIMEOUT_S = 60.0
EMULATED_SHUTDOWN_TIMEOUT_S = 180.0
SAY_EVERY_S = 10.0  # each is a line in a log
POLL_S = 0.25
BUSY_TRIES_MAX = 20


def start(context: Context, domain: Any, *, anew: bool = False) -> None:
    """`anew`: what was saved of it is of an older definition, and is dropped."""
    if anew and domain.hasManagedSaveImage(0):
        domain.managedSaveRemove(0)
    try:
        domain.create()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID and domain.isActive():
            return  # somebody was faster
        raise ProviderError(f"domain {domain.name()} cannot be started: {explain(error)}") from error


def is_saved_with(domain: Any, mark: Mark) -> bool:
    """Whether its memory was saved (virsh managedsave) by a run that only goes on where it was."""
    if not domain.hasManagedSaveImage(0):
        return False
    saved = find(domain.managedSaveGetXMLDesc(0))
    return saved is not None and saved.boot == mark.boot


def stop(context: Context, domain: Any) -> None:
    """Off afterwards: by its own shutdown, or switched off when it takes too long."""
    name, limit = domain.name(), _patience(domain)
    began = context.clock()
    said = began - SAY_EVERY_S + 1
    try:
        domain.shutdown()  # libvirt asks its agent if there is one, else by ACPI
    except libvirt.libvirtError:
        limit = 0.0  # it is off already, or cannot be asked
    while domain.isActive() and context.clock() - began < limit and not context.cancelled.is_set():
        if context.clock() - said >= SAY_EVERY_S:
            said = context.clock()
            context.say(f"domain {name}: waiting for it to shut down ({said - began:.0f} of {limit:.0f} s)")
        time.sleep(POLL_S)
    if domain.isActive():
        if limit:
            context.note(f"domain {name} did not shut down in {limit:.0f} s; it is switched off")
        switch_off(domain)


def _patience(domain: Any) -> float:
    if configured := os.environ.get("SAMPAN_SHUTDOWN_TIMEOUT_S"):
        return float(configured)
    return EMULATED_SHUTDOWN_TIMEOUT_S if domain.XMLDesc(0).startswith("<domain type='qemu'") else SHUTDOWN_TIMEOUT_S


def switch_off(domain: Any) -> None:
    for _ in range(BUSY_TRIES_MAX):
        try:
            domain.destroy()
            return
        except libvirt.libvirtError as error:
            if error.get_error_code() in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
                return  # it is off
            if "Device or resource busy" not in str(error):
                raise
        time.sleep(POLL_S)
    raise ProviderError(f"domain {domain.name()} cannot be switched off: its QEMU process does not end")


def restart(context: Context, domain: Any) -> None:
    stop(context, domain)
    start(context, domain, anew=True)


def explain(error: Any) -> str:
    """libvirt's words, and what to do about the usual causes."""
    said = error.get_error_message() or str(error)
    remedies = {
        "could not find capabilities": 'This host has no such hypervisor: is /dev/kvm there? type = "qemu" needs none.',
        "failed to initialize kvm": '/dev/kvm cannot be used here; type = "qemu" needs none.',
        "TPM version": "An emulated TPM needs the program swtpm on the hypervisor (Debian: swtpm, swtpm-tools).",
        "Permission denied": "The user who runs QEMU must be able to read its disks, kernel and initrd.",
        "Cannot access storage file": "Is the volume still there, and does the user who runs QEMU reach its folder?",
        "is not active": "Start that network: virsh net-start, or pulumi up --refresh if this stack made it.",
        "Cannot allocate memory": "The host has too little memory left: give the domain less, or stop another one.",
    }
    remedy = next((words for pattern, words in remedies.items() if pattern.lower() in said.lower()), "")
    return f"{said}. {remedy}".rstrip()
