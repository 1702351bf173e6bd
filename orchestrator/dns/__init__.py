"""Cluster DNS: names of Services and their endpoints, answered on every node; everything else is asked upstream.

`message` is the wire format, `records` turns a Service into names, `zone` holds them, `answer` decides, `packed` keeps
encoded answers, `forward` asks upstream, `server` owns the sockets, `registration` puts this server behind kube-dns.
"""
