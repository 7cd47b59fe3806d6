package process

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os/user"
	"strconv"
)

// identity is whom a process runs as.
type identity struct{ uid, gid int }

func (i identity) root() bool { return i.uid == 0 || i.gid == 0 }

// resolve finds a user and a group of this host.
func resolve(name, group string) (who identity, err error) {
	who.gid = -1
	uid, numeric := number(name)
	u, err := user.Lookup(name)
	if numeric {
		u, err = user.LookupId(name)
	}
	switch {
	case numeric && noUser(err): // a number needs no entry
		who.uid = uid
	case noUser(err):
		return who, fmt.Errorf("user: there is no user %q on this host", name)
	case err != nil:
		return who, fmt.Errorf("user: %w", err)
	default:
		if who.uid, err = strconv.Atoi(u.Uid); err != nil {
			return who, fmt.Errorf("user: %w", err)
		}
		if who.gid, err = strconv.Atoi(u.Gid); err != nil {
			return who, fmt.Errorf("user: %w", err)
		}
	}
	if group != "" {
		who.gid, err = resolveGroup(group)
		return who, err
	}
	if who.gid < 0 {
		return who, fmt.Errorf("group: is missing: user %s has no entry on this host that would say its group", name)
	}
	return who, nil
}

// noUser tells that there is no such user. Images without a distribution have no list of them.
func noUser(err error) bool {
	var name user.UnknownUserError
	var id user.UnknownUserIdError
	return errors.As(err, &name) || errors.As(err, &id) || errors.Is(err, fs.ErrNotExist)
}

func resolveGroup(name string) (int, error) {
	if gid, ok := number(name); ok {
		return gid, nil
	}
	g, err := user.LookupGroup(name)
	var unknown user.UnknownGroupError
	if errors.As(err, &unknown) || errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("group: there is no group %q on this host", name)
	}
	if err != nil {
		return 0, fmt.Errorf("group: %w", err)
	}
	return strconv.Atoi(g.Gid)
}

// number reads an id. The highest is no id: to the kernel it says "as it is".
func number(text string) (int, bool) {
	n, err := strconv.ParseUint(text, 10, 32)
	return int(n), err == nil && n != math.MaxUint32
}
