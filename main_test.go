package main

import (
	"crypto/sha256"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	// Scenarios start weir as a process, which here is this binary; tests are started with flags.
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		main()
		return
	}
	testscript.Main(m, map[string]func(){"weir": main})
}

// TestScripts runs testdata/script/*.txt: the program as its users meet it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":      exits,
			"noise":      noise,
			"eventually": eventually,
		},
		Condition: func(name string) (bool, error) { return name == "root" && os.Geteuid() == 0, nil },
	})
}

// exits runs weir and checks its exit code: exits CODE ARGS...
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want := args[0]
	err := ts.Exec("weir", args[1:]...)
	got := "0"
	if err != nil {
		got = err.Error()[len("exit status "):]
	}
	if got != want {
		ts.Fatalf("exit code %s, want %s", got, want)
	}
}

// noise writes ten megabytes that mean nothing, the same each time: noise FILE
func noise(ts *testscript.TestScript, _ bool, args []string) {
	data := make([]byte, 0, 10<<20)
	for block := sha256.Sum256(nil); len(data) < 10<<20; block = sha256.Sum256(block[:]) {
		data = append(data, block[:]...)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}

// eventually waits until a file has text that matches: eventually FILE REGEXP
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[1])
	var text []byte
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		text, _ = os.ReadFile(ts.MkAbs(args[0])) // that may not be there yet
		if want.Match(text) {
			return
		}
	}
	ts.Fatalf("%s does not match %q:\n%s", args[0], args[1], text)
}
