package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/weirnet/weir/agent/chain"
)

// maxAnswer is how large an answer may be, in bytes.
const maxAnswer = 64 << 20

// Client asks a server behind a unix socket; it connects with each call.
type Client struct {
	http    http.Client
	context context.Context
}

// Dial returns a client for the time of a context.
func Dial(ctx context.Context, socket string) *Client {
	var d net.Dialer
	return &Client{context: ctx, http: http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Plan is Manager.Plan.
func (c *Client) Plan(s *chain.Spec, opts chain.ApplyOptions) ([]chain.Change, error) {
	return c.changes("/plan", Order{*s, opts})
}

// Apply is Manager.Apply.
func (c *Client) Apply(s *chain.Spec, opts chain.ApplyOptions) ([]chain.Change, error) {
	return c.changes("/apply", Order{*s, opts})
}

// Delete is Manager.Delete.
func (c *Client) Delete(opts chain.ApplyOptions, keys ...chain.Key) ([]chain.Change, error) {
	return c.changes("/delete", Deletion{keys, opts.Force})
}

// Start is Manager.Start.
func (c *Client) Start(k chain.Key, member string) error {
	_, err := c.changes("/start", ProcessOf{k, member})
	return err
}

// Stop is Manager.Stop.
func (c *Client) Stop(k chain.Key, member string) error {
	_, err := c.changes("/stop", ProcessOf{k, member})
	return err
}

// List is Manager.List.
func (c *Client) List() ([]chain.Status, error) {
	var all Chains
	code, err := c.call(http.MethodGet, "", nil, &all)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("the agent answers with status %d", code)
	}
	return all.Chains, err
}

func (c *Client) changes(path string, in any) ([]chain.Change, error) {
	var a Answer
	code, err := c.call(http.MethodPost, path, in, &a)
	if err != nil {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("the agent answers: %s", a.Error)
	}
	all := []chain.Change{}
	for _, i := range a.Items {
		if i.Change != nil {
			all = append(all, *i.Change)
		}
	}
	return all, nil
}

func (c *Client) call(method, path string, in, out any) (status int, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(c.context, method, "http://weir"+Path+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask the agent: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, fmt.Errorf("read the agent's answer: %w", err)
	}
	if err := json.Unmarshal(text, out); err != nil {
		return 0, fmt.Errorf("the agent answers with status %d: %s", resp.StatusCode, bytes.TrimSpace(text))
	}
	return resp.StatusCode, nil
}
