"""What the server itself does for single kinds beside storing them: addresses of Services, binding and evicting pods,
tokens of service accounts, finalizing namespaces. Handlers answer a whole subresource; strategies stand beside a write.
"""
