from __future__ import annotations

import yaml

from infra.images.machine import files
from infra.images.sysctls import SYSCTLS


def test_a_machine_has_every_kernel_setting_that_a_namespace_node_has() -> None:
    lines = files.texts()["/etc/sysctl.d/60-sampan.conf"].splitlines()
    settings = dict(line.split(" = ", 1) for line in lines)
    assert settings.items() >= SYSCTLS.items()
    assert settings["net/ipv4/ping_group_range"] == "0 2147483647"


def test_bridge_settings_find_their_module_loaded() -> None:
    assert "br_netfilter" in files.texts()["/etc/modules-load.d/sampan.conf"].splitlines()
    assert set(files.MODULES) <= set(files.UNPACKED)
    assert not set(files.UNPACKED) & set(files.BLACKLISTED)


def test_cloud_init_asks_nobody_but_the_disk_and_makes_no_user() -> None:
    settings = yaml.safe_load(files.texts()["/etc/cloud/cloud.cfg"])
    assert settings["datasource_list"] == ["NoCloud"]
    assert (settings["users"], settings["disable_root"]) == ([], False)
    assert "ssh" in settings["cloud_init_modules"]


def test_nothing_that_is_started_is_masked() -> None:
    started = {name for names in files.ENABLED.values() for name in names}
    assert started and not started & set(files.MASKED)


def test_no_path_is_both_file_and_link() -> None:
    assert not set(files.texts()) & set(files.links())


def test_a_new_network_device_starts_no_process() -> None:
    rules = (
        'SUBSYSTEM=="block", TAG+="systemd"\n'
        'ACTION=="add", SUBSYSTEM=="net", KERNEL!="lo", RUN+="/usr/lib/systemd/systemd-sysctl --prefix=/net/$name"\n'
        'SUBSYSTEM=="net", TAG+="systemd"\n'
    )
    assert files.network_rules(rules) == 'SUBSYSTEM=="block", TAG+="systemd"\nSUBSYSTEM=="net", TAG+="systemd"\n'
