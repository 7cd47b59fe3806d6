package process

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Acts are what processes of tests do.
var Acts = map[string]func([]string){
	"inside": inside, "child": idle, "stubborn": stubborn, "family": family, "memory": memory, "threads": threads,
	"supervise": supervise,
}

// say writes a line, which comes out in the log.
func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// idle is a process that does nothing.
func idle([]string) {
	say("child %d", os.Getpid())
	time.Sleep(time.Hour)
}

// stubborn does not end when it is asked to.
func stubborn([]string) {
	signal.Ignore(syscall.SIGTERM)
	say("stubborn %d", os.Getpid())
	time.Sleep(time.Hour)
}

// family has children: one of its process group, and one that has left it.
func family([]string) {
	for _, setsid := range []bool{false, true} {
		_, err := syscall.ForkExec("/proc/self/exe", []string{"family", "child"}, &syscall.ProcAttr{Env: os.Environ(),
			Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: setsid}})
		if err != nil {
			say("error %v", err)
		}
	}
	time.Sleep(time.Hour)
}

// memory writes to more memory than it may have.
func memory([]string) {
	say("begins %d", os.Getpid())
	for i, b := 0, make([]byte, 256<<20); i < len(b); i += 4096 {
		b[i] = 1
	}
	say("has all")
}

// threads are as many processes as there can be.
func threads([]string) {
	for range 100 {
		_, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{})
		if err != nil {
			say("error %v", err)
			return
		}
	}
	say("has all")
}

// shown are the lines of a process's status that tests look at; no more fit in a second of the log.
var shown = regexp.MustCompile(`^(Uid|Gid|Groups|Cap\w+|NoNewPrivs|Seccomp|SigIgn|SigBlk):`)

// goOwn are files that Go's runtime opens: it polls, and looks how many CPUs it may use.
var goOwn = regexp.MustCompile(`^anon_inode:|/cpu\.\w+$`)

// inside says what a process sees of itself.
func inside(names []string) {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		say("error %v", err)
	}
	for line := range strings.Lines(string(status)) {
		if text := strings.Join(strings.Fields(line), " "); shown.MatchString(text) {
			say("status %s", text)
		}
	}
	say("args %q", names)
	say("env %q", os.Environ())
	dir, _ := os.Getwd()
	pgid, _ := unix.Getpgid(0)
	sid, _ := unix.Getsid(0)
	say("dir %s umask %#o leader %t %t", dir, unix.Umask(0), pgid == os.Getpid(), sid == os.Getpid())
	for fd := range 64 {
		target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err == nil && !goOwn.MatchString(target) {
			say("fd %d %s", fd, strings.Split(target, ":")[0])
		}
	}
	if n, err := os.Stdin.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		say("error stdin: %d %v", n, err)
	}
	answers := map[syscall.Errno][]string{}
	for name, number := range refusedAll() {
		_, _, errno := unix.RawSyscall6(uintptr(number), ^uintptr(0), ^uintptr(0), ^uintptr(0), ^uintptr(0), ^uintptr(0), ^uintptr(0))
		answers[errno] = append(answers[errno], name)
	}
	for errno, names := range answers {
		slices.Sort(names)
		say("errno %d: %s", errno, strings.Join(names, " "))
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWNET|unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	say("clone %d", errno)
	_, _, errno = unix.RawSyscall6(unix.SYS_CLONE3, 0, 0, 0, 0, 0, 0)
	say("clone3 %d", errno)
	say("done")
	time.Sleep(time.Hour)
}
