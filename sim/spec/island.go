package spec

// islands numbers the parts of the topology that no link joins: in the order of their first hosts, from 0.
func (b *builder) islands() {
	joined := map[string][]string{} // by host
	join := func(x, y string) {
		joined[x], joined[y] = append(joined[x], y), append(joined[y], x)
	}
	for _, l := range b.out.Links {
		join(l.A.Host, l.B.Host)
	}
	b.each(func(_ *rawHost, host *Host, _ *rawInterface, i *Interface) {
		if i.On.Host != "" {
			join(host.Name, i.On.Host)
		}
	})
	seen, next := map[string]bool{}, 0
	for h := range b.out.Hosts {
		if seen[b.out.Hosts[h].Name] {
			continue
		}
		for queue := []string{b.out.Hosts[h].Name}; len(queue) > 0; queue = queue[1:] {
			if name := queue[0]; !seen[name] {
				seen[name] = true
				b.out.Host(name).Island = next
				queue = append(queue, joined[name]...)
			}
		}
		next++
	}
}
