// Package process runs the user-space parts of chains' members: each under its own user, without privileges, with
// a filter for system calls and limits, started again when it ends, and ended as a whole.
//
// Nothing of it can be done between fork and exec by a Go program. So a Supervisor starts its own executable, which
// gives up everything in Exec and then becomes the command. What it becomes is a sealed copy of the file that was
// checked (Program): nobody can exchange it in between.
package process
