#!/bin/sh
# Runs inside the new root file system (`chroot ROOT /finish.sh`), once everything has been copied into it: users, units,
# initramfs, compiled Python; then out with what only the build needed.
#
# Rules kept here:
# 1. Nothing is fetched. 2. The same input gives the same files: no clock, no random names, no host's name.
# 3. Nobody can log in: no password, no getty, no shell on a serial line, no SSH.
set -eu
export SOURCE_DATE_EPOCH="$1"
export PYTHONHASHSEED=0 LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

systemd-sysusers
rm -f /etc/machine-id && : > /etc/machine-id
passwd -l root > /dev/null 2>&1 || usermod -L root

systemctl preset-all > /dev/null
systemctl mask --quiet getty.target getty@.service serial-getty@.service console-getty.service container-getty@.service \
  autovt@.service emergency.service emergency.target rescue.service rescue.target debug-shell.service \
  ctrl-alt-del.target systemd-coredump.socket apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
  e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-firstboot.service systemd-homed.service \
  systemd-remount-fs.service
systemctl set-default --quiet multi-user.target
# One service of the device reads the update's slot; RAUC itself marks nothing good, only the health check does.
systemctl disable --quiet rauc-mark-good.service 2> /dev/null || true
systemctl mask --quiet rauc-mark-good.service

kernel=$(basename /usr/lib/modules/*)
depmod -a "${kernel}"
update-initramfs -c -k "${kernel}"
mv "/boot/vmlinuz-${kernel}" /boot/vmlinuz
mv "/boot/initrd.img-${kernel}" /boot/initrd.img
rm -f /boot/System.map* /boot/config-* /vmlinuz* /initrd.img*

# Compiled Python for what has none yet (see environment.py): the root file system cannot be written, so nothing would be
# compiled later. These files never look at their source again, so that no time is in them.
rm -rf /usr/lib/python3*/ensurepip /usr/lib/python3*/idlelib /usr/lib/python3*/pydoc_data /usr/lib/python3*/test \
  /usr/lib/python3*/tkinter /usr/lib/python3*/turtledemo
if [ ! -e /opt/turnkey/lib/python3*/site-packages/turnkey/__pycache__ ]; then
  python3 -m compileall -q --invalidation-mode unchecked-hash /opt/turnkey/lib /usr/lib/python3*/ || true
fi

# What only the build needed. dpkg's database goes with /var; the SBOM keeps what it said.
for package in initramfs-tools initramfs-tools-core initramfs-tools-bin dracut-install klibc-utils libklibc cpio busybox \
  apt apt-utils debian-archive-keyring gpgv sqv libapt-pkg7.0 tzdata adduser; do
  dpkg-query -W "${package}" > /dev/null 2>&1 || continue
  dpkg --purge --force-depends --force-remove-essential --force-remove-protected --no-triggers "${package}" \
    > /dev/null 2>&1 || echo "finish: ${package} stays"
done
cp /var/lib/dpkg/status /dpkg-status
rm -rf /usr/share/zoneinfo/right /usr/share/perl /usr/share/doc-base /usr/share/common-licenses/GFDL* /usr/include
rm -rf /etc/apt /etc/alternatives.old /etc/kernel /etc/initramfs-tools /usr/share/initramfs-tools
rm -rf /var/* /tmp/* /run/* /root/.[a-z]* /finish.sh
# /var is the data partition; what is linked to it must find a directory there before it is mounted.
ln -sfn /var/lib/turnkey-site /etc/turnkey
ln -sfn /var/lib/turnkey-site/credstore /etc/credstore
ln -sfn /var/lib/turnkey-site/credstore.encrypted /etc/credstore.encrypted
ln -sfn /run/systemd/resolve/resolv.conf /etc/resolv.conf
echo turnkey > /etc/hostname
mkdir -p /boot/firmware
