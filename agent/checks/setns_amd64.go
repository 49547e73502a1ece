package checks

// sysSetns is setns(2), which package syscall does not know here.
const sysSetns = 308
