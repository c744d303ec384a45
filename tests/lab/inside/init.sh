# Second stage of a guest's boot: a private, writable root over the shared one, then
# names, addresses and the courier. Started by /sbin/lab-init, which has mounted proc,
# a scratch tmpfs on /mnt and the guest's share on /mnt/lab.
say() { echo "lab: $(cut -d' ' -f1 /proc/uptime) $*" >/dev/console; }
give_up() { say "$*"; sleep 1; exec /bin/sleep 99999; }

. /mnt/lab/guest.env
release=$(uname -r)
mkdir -p /mnt/modules /mnt/disk /mnt/new
mount -t hostfs -o "$MODULE_DIR/$release" none /mnt/modules || give_up "no modules in $MODULE_DIR/$release"
insmod /mnt/modules/kernel/fs/overlayfs/overlay.ko
if [ -n "$DISK" ]; then
	mount -t ext4 -o noatime,nodiscard /dev/ubda /mnt/disk || give_up "cannot mount the disk"
fi
mkdir -p /mnt/disk/upper /mnt/disk/work /mnt/disk/docker
mount -t overlay -o lowerdir=/,upperdir=/mnt/disk/upper,workdir=/mnt/disk/work root /mnt/new || give_up "no overlay"

cd /mnt/new
mkdir -p proc sys dev run tmp lab var/lib/docker .old "lib/modules/$release"
mount -o bind /mnt/disk/docker var/lib/docker        # overlay2 refuses to sit on an overlay
mount -t hostfs -o "$SHARE" none lab
mount -t hostfs -o "$MODULE_DIR/$release" none "lib/modules/$release"
mount -o move /dev dev
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 run run
mkdir -p run/lock run/netns run/sshd dev/pts dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
for dir in $MOUNTS; do
	mkdir -p "./$dir"
	mount -r -t hostfs -o "$dir" none "./$dir" || give_up "cannot mount $dir"
done
pivot_root . .old
cd /
umount -l /.old/proc; umount -l /.old

hostname "$NAME"
[ -s /etc/hostname ] && [ "$(cat /etc/hostname)" = "$NAME" ] || echo "$NAME" >/etc/hostname
[ -s /etc/machine-id ] || cat /lab/machine-id >/etc/machine-id     # a test may have given it another
cp /lab/hosts /etc/hosts
install -D -m 600 /lab/ssh_host_ed25519_key /etc/ssh/ssh_host_ed25519_key
install -d -m 700 /root/.ssh
install -m 600 /lab/authorized_keys /root/.ssh/authorized_keys

# The courier comes back by itself: without it a guest would be out of reach.
courier() { (while :; do setsid /usr/bin/python3 -I -S /lab/courier.py /dev/ttyS0; sleep 1; done) </dev/null >/run/courier.log 2>&1 & }
# `wait` also reaps what daemons leave to pid 1.
stay() { sleep infinity & while :; do wait; sleep 5; done; }

ip link set lo up
if [ -n "$SWITCH_PORTS" ]; then
	modprobe -qa bridge nf_tables
	sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1
	ip link add br0 type bridge vlan_filtering 1 vlan_default_pvid 1 stp_state 0 forward_delay 0 mcast_snooping 0
	ip link set br0 up
	n=0
	while [ $n -lt "$SWITCH_PORTS" ]; do
		port=p$((n + 1))
		ip link set vec$n name $port
		ip link set $port master br0 up
		bridge vlan add dev $port vid 2-4094
		n=$((n + 1))
	done
	courier; say up; stay
fi
for nic in /sys/class/net/*; do
	case $(cat "$nic/address") in
	"$MGMT_MAC") ip link set "${nic##*/}" name mgmt0 ;;
	"$TRUNK_MAC") ip link set "${nic##*/}" name enp7s0 ;;
	esac
done
ip link set mgmt0 up
ip addr add "$MGMT_IP/24" dev mgmt0
ip link set enp7s0 up
modprobe -qa $MODULES
say booted
courier
if [ "$INIT" = systemd ]; then exec /sbin/init; fi

# The minimal init: cgroups, sshd, the test's own start-up, and reaping.
if [ "$CGROUP" = v2 ]; then
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
	mount -t tmpfs cgroup /sys/fs/cgroup
	for c in $(awk '$4 == 1 { print $1 }' /proc/cgroups); do
		mkdir -p "/sys/fs/cgroup/$c"
		mount -t cgroup -o "$c" cgroup "/sys/fs/cgroup/$c" || rmdir "/sys/fs/cgroup/$c"
	done
fi
/usr/sbin/sshd -o ListenAddress="$MGMT_IP" &
if [ -e /etc/lab/boot ]; then
	[ -x /etc/lab/boot ] || chmod 755 /etc/lab/boot
	setsid /etc/lab/boot </dev/null >/var/log/boot.log 2>&1 &
fi
say up
stay
