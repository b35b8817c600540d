#!/bin/sh
# A User-Mode Linux machine of a lab, outside and inside. Started by uml-node.ts; not for use by hand.
#   uml-machine.sh outside ARGS...  first process of the machine's pid namespace, in the switch's network namespace and a mount
#                                   namespace of its own: makes the host's root read-only and runs linux.uml with ARGS
#   uml-machine.sh (no argument)    pid 1 of the machine; the kernel passes LAB_CONFIG, a file with these variables:
# LAB_NODE     host name
# LAB_LINKS    "eth0=192.168.0.28 eth1=10.0.0.28": network devices in their order, with addresses
# LAB_CONTROL  address of the last network device, on which the exec channel listens
# LAB_DISKS    "sda6=ubda ...": names below /dev for the block devices
# LAB_HOSTS    the lab's hosts file
# LAB_FILES    folder whose content is copied over / at every boot, or empty
# LAB_SCRIPTS  this folder
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb

if [ "${1:-}" = outside ]; then
  shift
  # Root inside the machine is root on hostfs: whatever it remounts, the host's files stay as they are.
  for folder in $LAB_IMAGES; do mount --bind "$folder" "$folder" || exit 1; done
  mount -o remount,bind,ro / || exit 1
  ulimit -c 0
  "$@" </dev/null & # not as pid 1: the kernel would ignore signals that linux.uml sends to itself
  wait $!
  exit
fi

say() { echo "LAB $*"; } # on the console, where uml-node.ts reads it
fail() {
  say "failed $*"
  sleep infinity
}
. "$LAB_CONFIG"
mount -t proc proc /proc && mount -t sysfs sysfs /sys || fail "cannot mount /proc and /sys"
echo "$LAB_NODE" >/proc/sys/kernel/hostname
version=$(uname -r)
modules=/usr/lib/uml/modules/$version
[ -d "$modules" ] || fail "no modules for $version (Debian package user-mode-linux)"
grep -q overlay /proc/filesystems || insmod "$modules/kernel/fs/overlayfs/overlay.ko" || fail "no overlayfs"

mount -t tmpfs -o mode=755 lab-layers /mnt || fail "cannot mount a tmpfs"
mkdir /mnt/files && cp "$LAB_HOSTS" /mnt/hosts
[ -z "$LAB_FILES" ] || cp -r --preserve=mode "$LAB_FILES/." /mnt/files/
cp "$LAB_SCRIPTS/uml-exec.pl" /mnt/ # below /tmp or /home the scripts' folder is about to disappear
mount -t tmpfs -o mode=755 lab-run /run
mount -t tmpfs -o mode=1777 lab-tmp /tmp
mkdir -p /dev/pts /dev/shm /run/lock /run/mount /run/drbd /run/lab && chmod 1777 /run/lock
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 lab-shm /dev/shm
for name in etc home srv var root; do
  mkdir -p "/mnt/$name/upper" "/mnt/$name/work"
  mount -t overlay "lab-$name" -o "lowerdir=/$name,upperdir=/mnt/$name/upper,workdir=/mnt/$name/work" "/$name" ||
    fail "cannot mount an overlay on /$name"
done
echo "$LAB_NODE" >/etc/hostname
cp /mnt/hosts /etc/hosts
for name in /mnt/files/*; do
  [ ! -e "$name" ] || cp -r --preserve=mode "$name" /
done

# The kernel's own modules are not where modprobe looks for them; its requests (hmac(sha1), ...) go through this.
mkdir -p /run/lab/lib/modules /run/lab/bin
ln -s "$modules" "/run/lab/lib/modules/$version"
printf '#!/bin/sh\nexec /sbin/modprobe -d /run/lab "$@"\n' >/run/lab/bin/modprobe
chmod 755 /run/lab/bin/modprobe
echo /run/lab/bin/modprobe >/proc/sys/kernel/modprobe

ip link set lo up
number=0
for link in $LAB_LINKS; do
  name=${link%%=*}
  ip link set "vec$number" name "$name" && ip addr add "${link#*=}/24" brd + dev "$name" && ip link set "$name" up ||
    fail "cannot set up $name"
  number=$((number + 1))
done
ip link set "vec$number" name control && ip addr add "$LAB_CONTROL/30" dev control && ip link set control up ||
  fail "cannot set up the control link"
for disk in $LAB_DISKS; do
  [ -e "/dev/${disk%%=*}" ] || ln -s "${disk#*=}" "/dev/${disk%%=*}"
done
ln -sfn /proc/self/fd /dev/fd
ln -sfn fd/0 /dev/stdin
ln -sfn fd/1 /dev/stdout
ln -sfn fd/2 /dev/stderr
cd /
say "kernel $version"
# it says "ready" when it listens
{ perl /mnt/uml-exec.pl serve "$LAB_CONTROL" </dev/null || say "failed the exec channel"; } &
while :; do # pid 1 inherits the orphans; wait collects them
  sleep infinity &
  wait $!
done
