"""The service proxy: Services and EndpointSlices become packet rules on this node.

    services.py     what a Service and its EndpointSlices say, parsed once into small frozen values
    endpoints.py    which endpoints take the traffic of a service port, seen from this node
    ruleset.py      the elements and chains that make it so (pure)
    transaction.py  the difference between two rulesets as one nft transaction (pure)
    nft.py          the kernel, through python-nftables
    conntrack.py    connections that the kernel remembers to endpoints that are gone
    healthcheck.py  the HTTP port that tells a load balancer whether this node has endpoints
    proxier.py      what informers say becomes the wish, and the wish becomes transactions
    main.py         the component

Nothing here allocates addresses: that is the API server's work. It may be absent where the network does this work.
"""
