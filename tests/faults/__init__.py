"""Writing meets full disks, broken ones and kills."""
