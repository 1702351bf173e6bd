"""What a lab is made of and how components get onto its machines. Components never import from here."""
