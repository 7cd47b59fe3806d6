package agent

import (
	"encoding/json"
	"fmt"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/ifaces"
)

// name gives a hook number a name, for records of this agent and for those of the next one.
func (a *Agent) name(number uint16, h flow.Hook) {
	a.hooks[number] = h
	text, err := json.Marshal(h)
	if err == nil {
		err = a.dp.NameHook(number, string(text))
	}
	if err != nil { // the next agent calls it by its index
		a.log.Warn("remember a name", "hook", h.String(), "error", err)
	}
}

// hook names a hook number. Numbers that an earlier agent gave away, and this one does not watch, are called as
// they were by it.
func (a *Agent) hook(number uint16) flow.Hook {
	h, ok := a.hooks[number]
	if !ok {
		h = a.formerName(number)
		a.hooks[number] = h
	}
	return h
}

// formerName is how an earlier agent has called a hook; if it did not say, by namespace and index.
func (a *Agent) formerName(number uint16) flow.Hook {
	var h flow.Hook
	if json.Unmarshal([]byte(a.dp.HookName(number)), &h) == nil && h.Interface != "" {
		return h
	}
	at, ok := a.dp.HookOf(number)
	if !ok { // cannot happen: a number that is named is not given back
		return flow.Hook{Interface: fmt.Sprintf("hook-%d", number)}
	}
	h = flow.Hook{Namespace: ifaces.NameOf(at.Namespace), Interface: fmt.Sprintf("ifindex-%d", at.Interface),
		Direction: flow.Ingress}
	if at.Egress {
		h.Direction = flow.Egress
	}
	return h
}
