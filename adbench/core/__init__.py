"""What every room stands on: errors, plug-in tables, files, memos, threads, facts about the machine."""
