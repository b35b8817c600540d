#!/usr/bin/perl
# Runs commands in a User-Mode Linux machine, over a link of its own that no cut touches. Not for use by hand.
#   uml-exec.pl serve ADDRESS             in the machine: a child per connection
#   uml-exec.pl run ADDRESS SECONDS CMD...  outside: standard input is read to its end first; output, errors and exit status
#                                         pass. SECONDS: patience with a machine that does not answer yet.
# To the machine: "LENGTH LENGTH\n", the command (its words separated by NUL), its input. A connection that ends kills it.
# From the machine: frames of a letter (O output, E errors, X exit status), a 4-byte length, and data.
use strict; use warnings;
use POSIX (); use Socket;

my $PORT = 514;
my ($mode, $address, @rest) = @ARGV;
$mode eq 'serve' ? serve() : exit(call(@rest));

sub put_all {
  my ($to, $data) = @_;
  while (length $data) {
    my $n = syswrite($to, $data);
    return 0 unless $n;
    substr($data, 0, $n) = '';
  }
  return 1;
}

sub serve {
  socket(my $server, AF_INET, SOCK_STREAM, 0) or die "socket: $!";
  setsockopt($server, SOL_SOCKET, SO_REUSEADDR, 1);
  bind($server, sockaddr_in($PORT, inet_aton($address))) or die "bind: $!";
  listen($server, 64);
  $| = 1;
  print "LAB ready\n";
  local $SIG{CHLD} = 'IGNORE';
  while (1) {
    accept(my $peer, $server) or next;
    my $pid = fork();
    if (defined $pid && $pid == 0) {
      close $server;
      $SIG{CHLD} = 'DEFAULT';
      answer($peer);
      POSIX::_exit(0);
    }
    close $peer;
  }
}

sub answer {
  my ($peer) = @_;
  setsockopt($peer, 6, 1, 1);    # IPPROTO_TCP, TCP_NODELAY
  my ($buffer, $words, $input) = ('', 0, 0);
  my $more = sub { sysread($peer, $buffer, 65536, length $buffer) };
  while (index($buffer, "\n") < 0) { $more->() or return }
  (my $header, $buffer) = split /\n/, $buffer, 2;
  ($words, $input) = split / /, $header;
  while (length $buffer < $words + $input) { $more->() or return }
  my @command = split /\0/, substr($buffer, 0, $words), -1;
  open(my $stdin, '+>', undef) or die "input: $!";
  put_all($stdin, substr($buffer, $words));
  sysseek($stdin, 0, 0);

  pipe(my $out, my $out_end);
  pipe(my $err, my $err_end);
  my $pid = fork();
  if ($pid == 0) {
    POSIX::setsid();
    POSIX::dup2(fileno $stdin, 0); POSIX::dup2(fileno $out_end, 1); POSIX::dup2(fileno $err_end, 2);
    POSIX::close($_) for 3 .. 30;
    exec { $command[0] } @command or do { print STDERR "$command[0]: $!\n"; POSIX::_exit(127) };
  }
  close $_ for $stdin, $out_end, $err_end;
  $SIG{PIPE} = 'IGNORE';
  my %open = (O => $out, E => $err);
  my $status;
  while (1) {
    my $set = '';
    vec($set, fileno $_, 1) = 1 for $peer, values %open;
    my $found = select($set, undef, undef, defined $status ? 0.05 : %open ? 0.2 : 0.01);
    if ($found > 0) {
      for my $letter (sort keys %open) {
        next unless vec($set, fileno $open{$letter}, 1);
        my $n = sysread($open{$letter}, my $data, 65536);
        if (!$n) { delete $open{$letter} }
        elsif (!put_all($peer, $letter . pack('N', $n) . $data)) { kill 'KILL', -$pid; return }
      }
      if (vec($set, fileno $peer, 1)) { kill 'KILL', -$pid; return }
    }
    $status = $? & 127 ? 128 + ($? & 127) : $? >> 8 if !defined $status && waitpid($pid, 1) == $pid;
    # a daemon that it left behind may keep its output open: nothing for a moment is the end
    last if defined $status && (!%open || $found <= 0);
  }
  put_all($peer, 'X' . pack('NC', 1, $status));
}

sub call {
  my ($patience, @command) = @_;
  my $input = do { local $/; <STDIN> } // '';
  my $until = time() + $patience;
  my $peer;
  while (1) {
    socket($peer, AF_INET, SOCK_STREAM, 0) or die "socket: $!";
    last if eval { local $SIG{ALRM} = sub { die "slow\n" }; alarm 1; my $ok = connect($peer, sockaddr_in($PORT, inet_aton($address))); alarm 0; $ok };
    if (time() >= $until) { print STDERR "no answer from the machine\n"; return 255 }
    select(undef, undef, undef, 0.05);
  }
  my $words = join("\0", @command);
  put_all($peer, length($words) . ' ' . length($input) . "\n$words$input");
  my $buffer = '';
  while (sysread($peer, $buffer, 65536, length $buffer)) {
    while (length $buffer >= 5) {
      my ($letter, $length) = unpack('aN', $buffer);
      last if length $buffer < 5 + $length;
      my $data = substr($buffer, 5, $length);
      substr($buffer, 0, 5 + $length) = '';
      return unpack('C', $data) if $letter eq 'X';
      put_all($letter eq 'O' ? \*STDOUT : \*STDERR, $data);
    }
  }
  print STDERR "the machine is gone\n";
  return 255;
}
