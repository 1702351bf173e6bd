"""The scheduler: for each Pod without a node, the node that fits it best.

`pod`, `node` and `resources` are what is read of the API's objects; `snapshot` holds the cluster in arrays; `plugins/`
filter and score all nodes at once; `framework` runs them; `queue` holds the Pods that wait; `scheduler` is the loop
and `binding` what it does in the world. Decisions never await.
"""

import os

# Arrays of a few thousand numbers: threads of a linear algebra library would only cost memory. Read when numpy loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
