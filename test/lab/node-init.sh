#!/bin/sh
# A lab node from power-on to power-off. Started by node.ts in fresh mount, UTS, network and IPC namespaces; not for use by hand.
#   node-init.sh supervise   builds the node's mounts, runs its pid namespace, and when that has ended (killed from outside,
#                            or by halt inside) takes away what the kernel still holds for it: mounts and loop devices
#   node-init.sh pid1        the first process of the pid namespace
# LAB_DIR      the node's folder (on the lab's tmpfs): upper layers, log, events
# LAB_NODE     host name
# LAB_DEVICES  folder with a node's device files
# LAB_DISK     loop device that becomes /dev/sda6, or empty
# LAB_MASKED   files of the kernel that the node must not reach, separated by spaces
# LAB_PROJECT  the checkout, visible in the node under the same path
# LAB_NODEJS   the node program
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
fail() {
  echo "failed $*" >&3
  echo "node $LAB_NODE: $*" >&2
  exit 1
}

if [ "${1:-}" = pid1 ]; then
  cd /
  read -r pid _ </proc/self/stat # /proc is still the outer one: this is the pid as the lab sees it
  mount -t proc proc /proc || fail "cannot mount /proc"
  mount -t sysfs sysfs /sys 2>/dev/null # shows the node's own network devices; optional
  # The kernel is the host's, and so are these files: writing "o" to sysrq-trigger would power off the host.
  for file in $LAB_MASKED; do
    [ -e "$file" ] || continue # not in this kernel
    mount --bind /dev/null "$file" || fail "cannot mask $file"
    [ "$(stat -c %t:%T "$file")" = 1:3 ] || fail "$file is not masked"
  done
  echo "ready $pid" >&3
  exec 3>&- </dev/null
  unset LAB_DIR LAB_NODE LAB_DEVICES LAB_DISK LAB_MASKED LAB_PROJECT LAB_NODEJS
  while :; do # pid 1 inherits the orphans; wait collects them
    sleep infinity &
    wait $!
  done
fi

[ "${1:-}" = supervise ] || exit 2
exec 3>>"$LAB_DIR/events" # /run, where this folder is, gets hidden
echo "$LAB_NODE" >/proc/sys/kernel/hostname || fail "cannot set the host name"
ip link set lo up || fail "cannot bring lo up"

# a checkout below an overlaid folder stays the host's own
case $LAB_PROJECT in
/etc/* | /home/* | /srv/* | /var/*) keep=1 && mkdir -p "$LAB_DIR/project" && mount --bind "$LAB_PROJECT" "$LAB_DIR/project" ;;
*) keep= ;;
esac || fail "cannot bind $LAB_PROJECT"
for name in etc home srv var; do
  mkdir -p "$LAB_DIR/$name/upper" "$LAB_DIR/$name/work"
  mount -t overlay "lab-$name" -o "lowerdir=/$name,upperdir=$LAB_DIR/$name/upper,workdir=$LAB_DIR/$name/work" "/$name" ||
    fail "cannot mount an overlay on /$name"
done
[ -z "$keep" ] || mount --bind "$LAB_DIR/project" "$LAB_PROJECT" || fail "cannot bind $LAB_PROJECT"

# /dev: names such as /dev/drbd0 and /dev/sda6 are the node's own
dev=$LAB_DIR/dev
mkdir -p "$dev" && mount -t tmpfs -o mode=755 lab-dev "$dev" && cp -a "$LAB_DEVICES/." "$dev/" || fail "cannot make /dev"
mkdir -p "$dev/pts" "$dev/shm" "$dev/mqueue" && chmod 1777 "$dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$dev/pts" || fail "cannot mount /dev/pts"
ln -sfn pts/ptmx "$dev/ptmx"
ln -sfn /proc/self/fd "$dev/fd"
ln -sfn fd/0 "$dev/stdin"
ln -sfn fd/1 "$dev/stdout"
ln -sfn fd/2 "$dev/stderr"
if [ -n "$LAB_DISK" ]; then
  mknod -m 660 "$dev/sda6" b "$((0x$(stat -c %t "$LAB_DISK")))" "$((0x$(stat -c %T "$LAB_DISK")))" || fail "cannot make /dev/sda6"
fi
mount -n --move "$dev" /dev || fail "cannot move /dev into place"

# /run: empty at every start, but for what the lab itself needs
mount -t tmpfs -o mode=755 lab-run /mnt || fail "cannot make /run"
mkdir -p /mnt/lock /mnt/mount /mnt/lab/bin && chmod 1777 /mnt/lock
ln -s "$LAB_NODEJS" /mnt/lab/bin/node
printf '#!/bin/sh\nexec "%s" "%s/packages/cli/bin/hacluster.js" "$@"\n' "$LAB_NODEJS" "$LAB_PROJECT" >/mnt/lab/bin/hacluster
chmod 755 /mnt/lab/bin/hacluster
mount -n --move /mnt /run || fail "cannot move /run into place"

base=" $(cut -d' ' -f1 /proc/self/mountinfo | tr '\n' ' ') "
made_here() { # MOUNT-ID: was it mounted by the node's own processes?
  case $base in *" $1 "*) return 1 ;; esac
}
cd /proc # the outer one: the only way back to it later
unshare --pid --fork --kill-child "$0" pid1 2>/dev/null # it complains about SIGKILL
echo "ended $?" >&3

# Every process of the node is dead now, and /proc is that of a dead pid namespace: put the outer one on top of it.
mount --no-mtab --no-canonicalize --bind . /proc
cd /
[ -r /proc/self/mountinfo ] || fail "cannot reach the outer /proc"
# Loop devices on files of the node's FUSE mounts (an attached replicated device). Another node may have the same path: where
# the kernel can still tell the file's device number, it decides; where it cannot, the file's server is dead, here as there.
loops=
while read -r id _ number _ point rest; do
  made_here "$id" || continue
  case ${rest#*- } in fuse.* | fuse\ *) ;; *) continue ;; esac
  for backing in /sys/block/loop*/loop/backing_file; do
    [ -e "$backing" ] || continue
    read -r path <"$backing" 2>/dev/null || continue
    case $path in "$point"/*) ;; *) continue ;; esac
    loop=${backing#/sys/block/}
    loop=/dev/${loop%%/*}
    owner=$(timeout -s KILL 5 losetup --list --noheadings --output BACK-MAJ:MIN "$loop" 2>/dev/null | tr -d ' ')
    case $owner in "" | "$number" | 0:0) loops="$loops $loop" ;; esac
  done
done </proc/self/mountinfo
tac /proc/self/mountinfo | while read -r id _ _ _ point _; do
  made_here "$id" || continue
  case $point in /proc | /proc/*) continue ;; esac
  point=$(printf '%b' "$point")
  # an ext4 over a dead device may wait for I/O; never let that hold up a power loss
  timeout -s KILL 10 umount "$point" 2>/dev/null || umount -l "$point" 2>/dev/null
done
for loop in $loops; do losetup -d "$loop"; done
echo off >&3
