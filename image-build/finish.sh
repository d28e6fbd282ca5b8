#!/bin/sh
# Runs inside the new root file system (`chroot ROOT /bin/sh /finish.sh`), once everything has been copied into it: users,
# units, initramfs, and compiled Python where the builder could not.
#
# Rules kept here:
# 1. Nothing is fetched. 2. The same input gives the same files: no clock, no random names, no host's name.
# 3. Nobody can log in: no password, no getty, no shell on a serial line, no SSH.
# 4. It may be emulated, and then slow: what can be done from outside is done there (root.py).
set -eu
export SOURCE_DATE_EPOCH="$1"
export PYTHONHASHSEED=0 LC_ALL=C.UTF-8

systemd-sysusers
usermod -L root 2> /dev/null || passwd -l root > /dev/null

systemctl preset-all > /dev/null
# Health alone marks a slot good; RAUC's own unit would do so whatever came up.
systemctl mask --quiet getty.target getty@.service serial-getty@.service console-getty.service container-getty@.service \
  autovt@.service emergency.service emergency.target rescue.service rescue.target debug-shell.service \
  ctrl-alt-del.target apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
  e2scrub_reap.service fstrim.timer systemd-firstboot.service systemd-remount-fs.service systemd-growfs-root.service
systemctl mask --quiet rauc-mark-good.service
# The data partition's file system fills the partition, which fills the card (usr/lib/repart.d).
systemctl add-wants --quiet local-fs.target systemd-growfs@var.service
systemctl set-default --quiet multi-user.target

kernel=$(basename /usr/lib/modules/*)
update-initramfs -c -k "${kernel}"
mv "/boot/vmlinuz-${kernel}" /boot/vmlinuz
mv "/boot/initrd.img-${kernel}" /boot/initrd.img

# Compiled Python for what has none yet (see environment.py): the root file system cannot be written, so nothing would be
# compiled later. These files never look at their source again, so that no time is in them.
if [ ! -e /opt/turnkey/lib/python3*/site-packages/turnkey/__pycache__ ]; then
  python3 -m compileall -q --invalidation-mode unchecked-hash /opt/turnkey/lib /usr/lib/python3*/ || true
fi
