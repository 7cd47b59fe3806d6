package agent

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/control"
)

const removalHelp = `What is removed is reported with all that it has counted, as "forced" unless it has expired:
nothing is lost. The next packet of a connection that goes on opens a new one.`

// gcCommand is `weir ct gc`.
func gcCommand(socket *string) *cobra.Command {
	var output outputFlag
	var ahead time.Duration
	var addresses []string
	c := &cobra.Command{
		Use:   "gc",
		Short: "remove the connections that have expired, now",
		Long: `Removes the connections that have expired, as the agent does by itself with every sweep. With
--ahead those go too that would have expired after so long without a packet, with --address
those that have one of these ends.

` + removalHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.check(); err != nil {
				return err
			}
			if ahead < 0 {
				return fmt.Errorf("--ahead %v: want 0 or more", ahead)
			}
			order := conntrack.Collection{Expired: true, Ahead: ahead}
			for _, text := range addresses {
				place, err := parsePlace(text)
				if err != nil {
					return fmt.Errorf("--address: %w", err)
				}
				order.Places = append(order.Places, place)
			}
			return remove(cmd, socket, order, output)
		},
	}
	output.on(c)
	c.Flags().DurationVar(&ahead, "ahead", 0, "also remove what would expire within so long")
	c.Flags().StringSliceVar(&addresses, "address", nil, "also remove what has one of these ends, in a zone: 10.0.0.1@7")
	return c
}

// parsePlace reads ADDRESS or ADDRESS@ZONE.
func parsePlace(s string) (conntrack.Place, error) {
	text, zone, zoned := strings.Cut(s, "@")
	addr, err := netip.ParseAddr(text)
	number, err2 := uint64(0), error(nil)
	if zoned {
		number, err2 = strconv.ParseUint(zone, 10, 16)
	}
	if err != nil || err2 != nil || addr.Zone() != "" {
		return conntrack.Place{}, fmt.Errorf("%q; want an address, or one in a zone like 10.0.0.1@7", s)
	}
	return conntrack.Place{Addr: addr, Zone: uint16(number)}, nil
}

// flushCommand is `weir ct flush`.
func flushCommand(socket *string) *cobra.Command {
	var of choice
	var output outputFlag
	var all bool
	c := &cobra.Command{
		Use:   "flush",
		Short: "remove connections from the table",
		Long: `Removes the connections that fit all of the flags; without one it wants --all.

` + removalHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.check(); err != nil {
				return err
			}
			f, err := of.filter()
			if err != nil {
				return err
			}
			if all == of.any() {
				return errors.New("say which connections to remove, like --zone 7, or --all of them")
			}
			return remove(cmd, socket, conntrack.Collection{Filter: &f}, output)
		},
	}
	of.on(c)
	output.on(c)
	c.Flags().BoolVar(&all, "all", false, "remove all connections")
	return c
}

// deleteCommand is `weir ct delete`.
func deleteCommand(socket *string) *cobra.Command {
	var n naming
	c := &cobra.Command{
		Use:   "delete " + namingUsage,
		Short: "remove one connection",
		Long: `Removes one connection, which costs the same however many there are.

` + namingHelp + `

` + removalHelp,
		Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := n.tuple(args)
			if err != nil {
				return err
			}
			order := conntrack.Collection{Filter: &conntrack.Filter{Tuple: &t}}
			done, err := control.Dial(*socket).Collect(cmd.Context(), order)
			if err != nil {
				return err
			}
			if done.Scanned == 0 {
				return errNoConnection
			}
			return collectedTable(cmd.OutOrStdout(), &done)
		},
	}
	n.on(c)
	return c
}

// remove has connections removed, and tells how many.
func remove(cmd *cobra.Command, socket *string, order conntrack.Collection, output outputFlag) error {
	done, err := control.Dial(*socket).Collect(cmd.Context(), order)
	if err != nil {
		return err
	}
	if output == "json" {
		return writeJSON(cmd.OutOrStdout(), done)
	}
	return collectedTable(cmd.OutOrStdout(), &done)
}

func collectedTable(w io.Writer, done *conntrack.Collected) error {
	var reasons []string
	for _, why := range slices.Sorted(maps.Keys(done.Ended)) {
		reasons = append(reasons, fmt.Sprintf("%d %s", done.Ended[why], why))
	}
	if len(reasons) == 0 {
		reasons = []string{"none"}
	}
	text := fmt.Sprintf("%d connections, of which %d stay; removed: %s", done.Scanned, done.Alive, strings.Join(reasons, ", "))
	if done.Skipped > 0 {
		text += fmt.Sprintf("; %d met a packet, which has ended or saved them", done.Skipped)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}
