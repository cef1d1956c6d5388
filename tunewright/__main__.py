from tunewright.command_line import main

main()
