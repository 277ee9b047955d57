"""Running what a model wrote: bubblewrap, a filter of system calls, resource limits, and a watch from outside.

Without bubblewrap, `enter.py` makes the same namespaces and the same view of the machine itself. What is tried, and
what stops it (each line is a test in tests/rewards/test_sandbox_attacks.py, which runs on both):

    fork bomb                         RLIMIT_NPROC for a user of the job's own; the wall clock
    10 GiB, alone or in many parts    RLIMIT_AS (RLIMIT_DATA for JVM, V8, Go); a watch over all together
    endless output                    read up to a limit, then killed
    while True, sleep, SIGXCPU deaf   RLIMIT_CPU soft and hard; the wall clock
    SIGSTOP or SIGKILL to the parent  the first process of the PID namespace is immune from within
    /etc/shadow, the user's home      not mounted
    writing outside                   all mounts read-only but /tmp and /dev/shm, which end with the job
    sockets, loopback too             `socket` refused by the filter; an empty network namespace
    ptrace, process_vm_*, keys, bpf   refused by the filter; no capability; no_new_privs
    mounts, new namespaces            refused by the filter
    /proc/1/root, environ, mem, fd    it sees the same root; its environment holds PATH alone
    symbolic links                    are resolved inside
    a daemon left behind              the PID namespace is killed, and its end awaited, before a verdict is given
    another test's files              every run has a /tmp of its own
    a full disk, many descriptors     /tmp of 64 MiB; RLIMIT_FSIZE, RLIMIT_NOFILE
    exit before the tests             a pass needs the values of all calls, or the driver's word
    a forged verdict, a patched ==    comparisons run outside, or in a second sandbox that plain values alone reach
    looking for what is expected      it is never in the program's process, nor in its sandbox
    pretending that the sandbox fell  a mark on stderr, written before the program starts, says that it stood

Not held: the number of files in /tmp (inodes are memory of the kernel, until the run ends), and the exact memory of
what grows by gigabytes within 20 ms. Started by another user than root, a program shares its user with the sandbox's
first process and can read it: there is nothing in it. In "none" only the limits hold, but for the number of processes
and the watch over memory, and a process that leaves its session may survive.
"""
