package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/control"
)

// ConntrackCommand is `weir ct`.
func ConntrackCommand() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use: "ct", Short: "read and change the agent's connection tables", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.PersistentFlags().StringVar(&socket, "socket", control.DefaultSocket, "the agent's control socket")
	c.AddCommand(listCommand(&socket), getCommand(&socket), exportCommand(&socket), watchCommand(&socket),
		statsCommand(&socket), zonesCommand(&socket), gcCommand(&socket), flushCommand(&socket),
		deleteCommand(&socket), resizeCommand(&socket), natCommand(&socket), labelsCommand(&socket))
	return c
}

func resizeCommand(socket *string) *cobra.Command {
	return &cobra.Command{
		Use:   "resize ENTRIES",
		Short: "give the connection tables another size; connections go on",
		Long: `Gives each connection table, IPv4 and IPv6, room for so many entries while traffic flows.
Connections go on as they are. A size that is too small for those that are held is
refused. An agent that is started again takes the size from its configuration
(table.size); when that is too small for what it adopts, those connections end that were
idle for the longest time, with the reason lack-of-resources.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			entries, err := strconv.Atoi(args[0])
			if err != nil {
				return fmt.Errorf("ENTRIES: %q; want a number, like 65536", args[0])
			}
			return control.Dial(*socket).Resize(cmd.Context(), entries)
		},
	}
}

// outputFlag is the flag --output: table or json.
type outputFlag string

func (o *outputFlag) on(c *cobra.Command) {
	c.Flags().StringVarP((*string)(o), "output", "o", "table", "table or json")
}

func (o outputFlag) check() error {
	if o != "table" && o != "json" {
		return fmt.Errorf("--output %s: want table or json", o)
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func connectionTable(w io.Writer, all []conntrack.Entry) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	labelled := slices.ContainsFunc(all, func(e conntrack.Entry) bool { return e.SrcLabels != nil })
	header := "PROTO\tSTATE\tSOURCE\tDESTINATION\tPACKETS\tBYTES\tREPLY PACKETS\tREPLY BYTES\tIDLE\tEXPIRES IN"
	if labelled {
		header += "\tFROM\tTO\tSERVICE\tCLASS"
	}
	fmt.Fprintln(t, header)
	for i := range all {
		e := &all[i]
		left := max(0, e.Lifetime-e.Idle).Round(time.Second)
		src := endpoint(e.Src, e.SrcPort)
		if !e.Known {
			src = "?" + src // who opened the connection is not known
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%v\t%v",
			protocol(e.Protocol, e.Cites), e.State, src, endpoint(e.Dst, e.DstPort),
			e.Forward.Packets, e.Forward.Bytes, e.Reverse.Packets, e.Reverse.Bytes,
			e.Idle.Round(time.Second), left)
		if labelled {
			fmt.Fprintf(t, "\t%s\t%s\t%s\t%s", e.SrcLabels, e.DstLabels, e.Service, e.Class)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

func endpoint(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}

func protocol(p, cites uint8) string {
	names := map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
	name := func(p uint8) string {
		if n, ok := names[p]; ok {
			return n
		}
		return strconv.Itoa(int(p))
	}
	if cites != 0 {
		return name(p) + "/" + name(cites)
	}
	return name(p)
}
