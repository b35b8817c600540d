/**
 * Asks who has an address, and tells everybody who has it now. Node cannot open raw and packet sockets, arping waits in
 * whole seconds, and iputils has no ndisc6; perl-base is part of every Debian system and its Socket module can all
 * of it. The script does the waiting itself: an answer that has arrived counts, also when a busy machine wakes it late.
 * The numbers are Linux's: AF_PACKET 17, SO_BINDTODEVICE 25, SIOCGIFFLAGS 0x8913, SIOCGIFHWADDR 0x8927,
 * SIOCGIFINDEX 0x8933, IFF_LOOPBACK 8, IFF_NOARP 0x80, IPPROTO_ICMPV6 58, IPPROTO_IPV6 41 with IPV6_MULTICAST_IF 17,
 * IPV6_MULTICAST_HOPS 18 and IPV6_MULTICAST_LOOP 19.
 *
 *     perl -e SCRIPT probe INTERFACE ADDRESS MS        prints the MAC of the machine that answers, "unknown", or "free"
 *     perl -e SCRIPT advertise INTERFACE ADDRESS TIMES  IPv6: unsolicited advertisements that override, one a second
 * @see RFC 5227 section 2.1.1 (ARP probe); RFC 4861 sections 4.3, 4.4 and 7.2.6
 */
export const NEIGHBOUR_DISCOVERY_SCRIPT: string = String.raw`
use strict;
use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6);

my ($act, $dev, $text, $number) = @ARGV;
my $v6 = $text =~ /:/;
my $target = inet_pton($v6 ? AF_INET6 : AF_INET, $text) or die "$text is not an address\n";

socket(my $any, AF_INET, SOCK_DGRAM, 0) or die "socket: $!\n";
sub ask {
  my $request = pack("a16 x24", $dev);
  ioctl($any, $_[0], $request) or die "$dev: $!\n";
  return substr($request, 16);
}
my $index = unpack("i", ask(0x8933));
my $mac = unpack("x2 a6", ask(0x8927));
my $flags = unpack("S", ask(0x8913));

sub icmp_socket {
  socket(my $s, AF_INET6, SOCK_RAW, 58) or die "raw socket: $!\n";
  setsockopt($s, SOL_SOCKET, 25, "$dev\0") or die "$dev: $!\n";
  setsockopt($s, 41, 18, pack("i", 255)) or die "hop limit: $!\n";
  setsockopt($s, 41, 19, pack("i", 0)) or die "loop: $!\n";
  setsockopt($s, 41, 17, pack("i", $index)) or die "$dev: $!\n";
  return $s;
}

# the first packet that means "mine", within the time
sub answer {
  my ($s, $says) = @_;
  my $left = $number / 1000; # Linux takes the time that has passed off it
  while (1) {
    my $ready = "";
    vec($ready, fileno($s), 1) = 1;
    (my $found, $left) = select($ready, undef, undef, $left);
    return undef unless $found > 0;
    defined recv($s, my $packet, 2048, 0) or return undef;
    my $who = $says->($packet);
    return $who if defined $who;
  }
}
sub printable { join(":", map { sprintf "%02x", $_ } unpack("C6", $_[0])) }

sub probe_v4 {
  my $arp = unpack("S", pack("n", 0x0806));
  socket(my $s, 17, SOCK_DGRAM, $arp) or die "packet socket: $!\n";
  bind($s, pack("S n i S C C a8", 17, 0x0806, $index, 0, 0, 0, "")) or die "$dev: $!\n";
  my $everybody = pack("S n i S C C a8", 17, 0x0806, $index, 1, 0, 6, "\xff" x 6);
  my $request = pack("n n C C n a6 a4 a6 a4", 1, 0x0800, 6, 4, 1, $mac, "\0" x 4, "\0" x 6, $target);
  send($s, $request, 0, $everybody) or die "$dev: $!\n";
  return answer($s, sub {
    my ($sender, $address) = unpack("x8 a6 a4", $_[0] . "\0" x 28);
    return $address eq $target && $sender ne $mac ? printable($sender) : undef;
  });
}

sub probe_v6 {
  my $s = icmp_socket();
  my $group = inet_pton(AF_INET6, "ff02::1:ff00:0") | ("\0" x 13 . substr($target, 13));
  my $request = pack("C x7 a16 C2 a6", 135, $target, 1, 1, $mac);
  send($s, $request, 0, pack_sockaddr_in6(0, $group, $index)) or die "$dev: $!\n";
  return answer($s, sub {
    my $packet = $_[0];
    return undef unless length($packet) >= 24 && unpack("C", $packet) == 136 && substr($packet, 8, 16) eq $target;
    my $option = substr($packet, 24);
    while (length($option) >= 8 && (my $size = 8 * unpack("x C", $option))) {
      return printable(substr($option, 2, 6)) if unpack("C", $option) == 2;
      $option = length($option) > $size ? substr($option, $size) : "";
    }
    return "unknown";
  });
}

if ($act eq "probe") {
  die "$dev has no neighbours to ask\n" if $flags & 0x88;
  my $who = $v6 ? probe_v6() : probe_v4();
  print defined $who ? $who : "free", "\n";
  exit 0;
}

my $router = 0;
if (open(my $f, "<", "/proc/sys/net/ipv6/conf/$dev/forwarding")) { $router = <$f> + 0 }
my $s = icmp_socket();
bind($s, pack_sockaddr_in6(0, $target)) or die "$text: $!\n";
my $all = pack_sockaddr_in6(0, inet_pton(AF_INET6, "ff02::1"), $index);
my $message = pack("C x3 N a16 C2 a6", 136, $router ? 0xa0000000 : 0x20000000, $target, 2, 1, $mac);
while (1) {
  send($s, $message, 0, $all) or die "$dev: $!\n";
  last if --$number <= 0;
  sleep 1;
}
`;
