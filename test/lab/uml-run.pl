#!/usr/bin/perl
# uml-run.pl COMMAND...: runs COMMAND (linux.uml) so that it boots on processors with a larger register state than it knows.
#
# The 6.1 kernel's User-Mode Linux saves and restores its processes' vector registers with PTRACE_SETREGSET, in a buffer whose
# size was fixed when it was built. A host whose processor has more state (AMX) refuses that with EFAULT, and the machine ends
# in a panic before its first process has run. When PTRACE_GETREGSET fails at its start it falls back to PTRACE_GETFPREGS, the
# 512 bytes that every x86-64 has. So a seccomp filter makes exactly these requests fail. What is then lost at every page fault
# are the upper halves of the AVX registers: the programs in the machine must not use them (GLIBC_TUNABLES; no Node.js, whose
# own code does not ask glibc).
use strict; use warnings;

my ($LOAD, $JUMP_EQUAL, $RETURN) = (0x20, 0x15, 0x06);            # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
my ($X86_64, $PTRACE, $NT_X86_XSTATE) = (0xc000003e, 101, 0x202);
my ($GETREGSET, $SETREGSET) = (0x4204, 0x4205);
my ($ALLOW, $REFUSE) = (0x7fff0000, 0x00050000 | 19);             # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | ENODEV
# struct seccomp_data: system call number at 0, architecture at 4, arguments (64 bits each) from 16 on
my @filter = (
  [$LOAD, 0, 0, 4], [$JUMP_EQUAL, 0, 8, $X86_64],
  [$LOAD, 0, 0, 0], [$JUMP_EQUAL, 0, 6, $PTRACE],
  [$LOAD, 0, 0, 32], [$JUMP_EQUAL, 0, 4, $NT_X86_XSTATE],
  [$LOAD, 0, 0, 16], [$JUMP_EQUAL, 1, 0, $GETREGSET], [$JUMP_EQUAL, 0, 1, $SETREGSET],
  [$RETURN, 0, 0, $REFUSE],
  [$RETURN, 0, 0, $ALLOW],
);
my $program = join '', map { pack 'SCCL', @$_ } @filter;
my $header = pack 'S x6 P', scalar @filter, $program;
syscall(157, 22, 2, $header) == 0 or die "cannot set the filter: $!\n";   # prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER)
exec { $ARGV[0] } @ARGV or die "$ARGV[0]: $!\n";
