/**
 * Neighbour discovery for IPv6: ask who has an address, tell everybody who has it now. Node cannot open raw sockets and
 * iputils has no ndisc6; perl-base is part of every Debian system and its Socket module can.
 * The numbers are Linux's: SO_BINDTODEVICE 25, SIOCGIFINDEX 0x8933, SIOCGIFHWADDR 0x8927, IPPROTO_ICMPV6 58,
 * IPPROTO_IPV6 41 with IPV6_MULTICAST_IF 17, IPV6_MULTICAST_HOPS 18 and IPV6_MULTICAST_LOOP 19.
 *
 *     perl -e SCRIPT probe INTERFACE ADDRESS           prints "sent", then the answer's MAC, exit code 1; else waits on
 *     perl -e SCRIPT advertise INTERFACE ADDRESS TIMES  unsolicited advertisements with the override flag, one a second
 * @see RFC 4861 sections 4.3, 4.4 and 7.2.6
 */
export const NEIGHBOUR_DISCOVERY_SCRIPT: string = String.raw`
use strict; use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6);
my ($act, $dev, $text, $count) = @ARGV;
my $target = inet_pton(AF_INET6, $text) or die "$text is not an IPv6 address\n";
socket(my $s, AF_INET6, SOCK_RAW, 58) or die "raw socket: $!\n";
my $request = pack("a16 x24", $dev);
ioctl($s, 0x8933, $request) or die "$dev: $!\n";
my $index = unpack("x16 i", $request);
$request = pack("a16 x24", $dev);
ioctl($s, 0x8927, $request) or die "$dev: $!\n";
my $mac = unpack("x18 a6", $request);
setsockopt($s, SOL_SOCKET, 25, "$dev\0") or die "$dev: $!\n";
setsockopt($s, 41, 18, pack("i", 255)) or die "hops: $!\n";
setsockopt($s, 41, 19, pack("i", 0)) or die "loop: $!\n";
setsockopt($s, 41, 17, pack("i", $index)) or die "interface: $!\n";
sub group { pack_sockaddr_in6(0, $_[0], $index) }
$| = 1;
if ($act eq "probe") {
  my $group = inet_pton(AF_INET6, "ff02::1:ff00:0") | ("\0" x 13 . substr($target, 13));
  send($s, pack("C x7 a16 C2 a6", 135, $target, 1, 1, $mac), 0, group($group)) or die "send: $!\n";
  print "sent\n";
  while (defined recv($s, my $m, 2048, 0)) {
    next unless length($m) >= 24 && unpack("C", $m) == 136 && substr($m, 8, 16) eq $target;
    my $option = substr($m, 24);
    while (length($option) >= 8 && (my $size = 8 * unpack("x C", $option))) {
      if (unpack("C", $option) == 2) {
        print join(":", map { sprintf "%02x", $_ } unpack("x2 C6", $option)), "\n";
        exit 1;
      }
      $option = length($option) > $size ? substr($option, $size) : "";
    }
    print "unknown\n";
    exit 1;
  }
}
my $router = 0;
if (open(my $f, "<", "/proc/sys/net/ipv6/conf/$dev/forwarding")) { $router = <$f> + 0 }
bind($s, pack_sockaddr_in6(0, $target)) or die "bind: $!\n";
my $all = group(inet_pton(AF_INET6, "ff02::1"));
while (1) {
  send($s, pack("C x3 N a16 C2 a6", 136, $router ? 0xa0000000 : 0x20000000, $target, 2, 1, $mac), 0, $all) or die "send: $!\n";
  last if --$count <= 0;
  sleep 1;
}
`;
