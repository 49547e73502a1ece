package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"clusterd/isolation"
)

// HoldMode is the mode of the binary that an executor's container of the engine runs.
const HoldMode = "docker-hold"

// What the two sides of the socket say, in this order; each is one message.
type (
	// holdHello is the holder's: the pid namespace that it is in.
	holdHello struct{ Namespace string }
	// holdOrder is the agent's; the program and the files come with it.
	holdOrder struct {
		Argv, Env         []string
		Supervises, Small bool
	}
	// holdDone is the holder's answer.
	holdDone struct {
		PID   int
		Error string
	}
)

const (
	// holdMessage is the most that a message may hold.
	holdMessage = 64 << 10
	// holdFiles is how many files may come with one.
	holdFiles = 16
)

func sendMessage(conn *net.UnixConn, m any, files ...*os.File) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) > holdMessage {
		return fmt.Errorf("message of %d bytes: %w", len(text), syscall.EMSGSIZE)
	}
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	_, _, err = conn.WriteMsgUnix(text, rights, nil)
	return err
}

func receiveMessage(conn *net.UnixConn, m any) (files []*os.File, err error) {
	text, oob := make([]byte, holdMessage), make([]byte, syscall.CmsgSpace(holdFiles*4))
	n, noob, flags, _, err := conn.ReadMsgUnix(text, oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("the other side has gone")
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:noob])
	for i := range messages {
		fds, rightsErr := syscall.ParseUnixRights(&messages[i])
		err = errors.Join(err, rightsErr)
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	if flags&(syscall.MSG_CTRUNC|syscall.MSG_TRUNC) != 0 {
		err = errors.Join(err, syscall.EMSGSIZE)
	}
	if err == nil {
		err = json.Unmarshal(text[:n], m)
	}
	if err != nil {
		closeFiles(files)
		return nil, err
	}
	return files, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

func pidNamespace() (string, error) { return os.Readlink("/proc/self/ns/pid") }

// HoldMain starts the process above a container as the agent orders it, over the socket that
// is its argument, and ends with it.
//
// It is what an executor's container of the engine runs. When the agent's own container ends
// the engine kills all that runs there; what is started here is not there. An agent that has
// gone before it gave its order leaves nothing: the socket ends, and so does this.
func HoldMain(args []string) int {
	pid, err := hold(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "docker: hold:", err)
		return exitFailed
	}
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(pid, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			fmt.Fprintln(os.Stderr, "docker: hold:", err)
			return exitFailed
		case got == pid && status.Signaled():
			return exitSignaled + int(status.Signal())
		case got == pid:
			return status.ExitStatus()
		}
	}
}

func hold(args []string) (pid int, err error) {
	if len(args) != 1 {
		return 0, errors.New("expecting the agent's socket")
	}
	// A path may be longer than a socket's.
	if err := os.Chdir(filepath.Dir(args[0])); err != nil {
		return 0, fmt.Errorf("the agent's --runtime_dir is not the machine's: %w", err)
	}
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: "./" + filepath.Base(args[0]), Net: "unixpacket"})
	if err != nil {
		return 0, fmt.Errorf("the agent's --runtime_dir is not the machine's: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := os.Chdir("/"); err != nil {
		return 0, err
	}
	namespace, err := pidNamespace()
	if err != nil {
		return 0, err
	}
	if err := sendMessage(conn, holdHello{Namespace: namespace}); err != nil {
		return 0, err
	}
	var order holdOrder
	files, err := receiveMessage(conn, &order)
	if err != nil {
		return 0, fmt.Errorf("the agent gave no order: %w", err)
	}
	defer closeFiles(files)
	if len(files) < 2 || len(order.Argv) == 0 {
		return 0, errors.New("an order without a program")
	}
	b := &isolation.Birth{
		Argv: order.Argv, Env: order.Env, Program: files[0], Files: files[1:],
		Supervises: order.Supervises, Small: order.Small,
	}
	pid, err = b.Start()
	done := holdDone{PID: pid}
	if err != nil {
		done.Error = err.Error()
	}
	// If the agent has gone, what was started ends by itself: it has been told nothing.
	_ = sendMessage(conn, done)
	return pid, err
}
